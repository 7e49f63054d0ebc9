"""Masks, the contrastive loss, the translation loss, and the objective made of them."""
