"""kumo-py: a mail transfer agent that runs KumoMTA Lua policies on a trio core."""
