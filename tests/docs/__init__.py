"""What the documents, the OpenAPI document and the shape of the code say is so."""
