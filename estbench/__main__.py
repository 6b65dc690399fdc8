"""``python -m estbench``."""

from estbench.cli import main

if __name__ == "__main__":
    main()
