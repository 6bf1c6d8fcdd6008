"""``python -m sofa_otel.cli`` is ``sofa``."""

from sofa_otel.cli.main import main

main()
