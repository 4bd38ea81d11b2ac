"""A stand-in for the Azure Machine Learning service, for a machine that reaches no Azure.

It knows nothing of edgetrain. The unmodified azureml-core client talks to it as it would to the service. What was
compared with what, and what was not, stands in docs/azure.md.
"""
