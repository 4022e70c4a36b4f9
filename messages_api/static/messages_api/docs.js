// The same operations under other prefixes are groups named “below …”: these begin closed.
const closePrefixes = () => ({
  statePlugins: {
    layout: {
      wrapSelectors: {
        isShown: (original) => (state, thing, otherwise) =>
          original(thing, otherwise && !(thing[0] === "operations-tag" && thing[1]?.startsWith("below "))),
      },
    },
  },
});

// The document's own address, beside this page: it works behind any prefix.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#document",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  plugins: [closePrefixes],
  // Nothing is sent to a validator elsewhere.
  validatorUrl: null,
});
