"""Trial sessions: frozen manifests, the journal of outcomes and scoring."""
