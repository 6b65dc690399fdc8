"""The theory of the estimators that ship with estbench: closed-form variances, and problems on which they are exact.

It is part of the certificates of these estimators, and is not imported for any other estimator.
"""
