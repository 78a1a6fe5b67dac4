"""The same trials headless and through the whole robot stack, judged alike."""
