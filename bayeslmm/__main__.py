"""``python -m bayeslmm``: the command line."""

from bayeslmm.cli import run

if __name__ == "__main__":
    run()
