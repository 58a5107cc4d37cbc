"""Rate and distortion of our codec beside others': see `__main__.py`."""
