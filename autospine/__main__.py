"""``python -m autospine``."""

from autospine.cli.main import main

main()
