// The document's own address, beside this page: it works behind any prefix.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#document",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  // Nothing is sent to a validator elsewhere.
  validatorUrl: null,
});
