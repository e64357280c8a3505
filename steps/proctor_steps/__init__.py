"""What runs inside the containers of a Proctor pipeline. Imports neither proctor nor Airflow."""

import os

__version__ = "0.1.0"

# Libraries read these once, when they are loaded, so they stand where everything begins.
# A picture is taken apart in memory, three bytes a pixel, however small its file is.
MOST_PIXELS = 100_000_000
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MOST_PIXELS)
# ONNX Runtime's Linux builds report to their maker: nothing may leave a site unasked, and nothing
# else may run while something is measured.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
