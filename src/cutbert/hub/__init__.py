"""Loading and saving models; importing this registers our networks with transformers' Auto classes."""

from cutbert.hub.modeling import register

register()
