"""Azure Machine Learning: the workspace, attached compute, and the sign-in, all over azureml-core."""
