"""The forge on GitHub and GitHub Enterprise Server, over its REST API. Pure until a provider is made."""
