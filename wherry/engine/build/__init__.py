"""Building images from Dockerfiles, as moby's classic builder does it."""
