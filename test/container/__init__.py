"""The image as it is built and run; and the scripts that build and run it."""
