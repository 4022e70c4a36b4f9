// The document's own address, beside this page: it works behind any prefix.
const page = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#document",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  // The same operations under other prefixes stay closed: their groups are named by the prefix.
  docExpansion: "none",
  onComplete() {
    for (const { name } of page.specSelectors.specJson().get("tags").toJS()) {
      if (!name.startsWith("/")) page.layoutActions.show(["operations-tag", name], true);
    }
  },
  // Nothing is sent to a validator elsewhere.
  validatorUrl: null,
});
