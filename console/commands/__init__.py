"""One module per family of verbs; each is imported only when its verb is used."""
