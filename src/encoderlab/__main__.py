"""`python -m encoderlab` is `encoderlab`."""

from __future__ import annotations

import sys

from encoderlab.cli.main import main

sys.exit(main())
