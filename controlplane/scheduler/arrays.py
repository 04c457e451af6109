"""Names for the arrays of the scheduler. Amounts are exact as floats up to 2**53."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Smalls = npt.NDArray[np.int16]
Flags = npt.NDArray[np.bool_]
