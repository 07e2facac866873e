"""The language of Dockerfiles, without any building: text to instructions, and what they change of a configuration."""
