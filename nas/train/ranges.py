"""The widest ranges that anything real lies in: a wrong number should be refused, a surprising one should not."""

from typing import Annotated

from pydantic import Field

Number = Annotated[int, Field(ge=0, le=10**9)]
Steps = Annotated[int, Field(ge=1, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Decibels = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]  # of pixels in [0, 1]: no error is above one
Ssim = Annotated[float, Field(ge=-1, le=1.000001, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
