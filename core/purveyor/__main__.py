"""``python -m purveyor``."""

from purveyor.program import main

main()
