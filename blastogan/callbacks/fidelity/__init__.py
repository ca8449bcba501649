"""FID, KID and more during a fit."""
