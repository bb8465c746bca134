"""``python -m purveyor``."""

from purveyor.program import main

if __name__ == "__main__":
    main()
