"""Estimators with one defect each, and correct ones that look unusual: certificates must tell them apart."""
