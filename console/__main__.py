"""``python -m console`` is ``avatop``."""

from console.cli import main

if __name__ == "__main__":
    main()
