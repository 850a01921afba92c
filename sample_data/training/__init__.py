"""Training of the sample model: the VAE, the speech encoder, the DiT, the style LoRA."""
