"""Our networks in transformers' world; importing this registers them with the Auto classes."""

from cutbert.hub.modeling import register

register()
