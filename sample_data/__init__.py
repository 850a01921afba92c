"""Sample inputs and the scripts that make them; plain files, nothing here is needed to run."""
