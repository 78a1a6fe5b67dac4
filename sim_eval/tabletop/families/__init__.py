"""The task families of the suite, one module each."""
