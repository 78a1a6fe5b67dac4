"""Policy networks; one file per architecture."""
