"""Azure Blob Storage: on Azure Stack Hub, in Azure, or Azurite."""
