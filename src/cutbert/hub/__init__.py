"""Our networks as classes of transformers; importing this registers them with its Auto classes."""

from cutbert.hub.modeling import register

register()
