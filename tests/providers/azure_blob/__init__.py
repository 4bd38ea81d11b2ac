"""Tests of the providers on Azure Blob Storage, over Azurite."""
