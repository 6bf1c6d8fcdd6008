import sys
from pathlib import Path

# The helper modules beside the tests (sink, …) are imported by name.
sys.path.insert(0, str(Path(__file__).parent))
