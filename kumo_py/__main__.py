"""`python -m kumo_py` is the `kumo-py` command."""

from kumo_py.cli import main

main()
