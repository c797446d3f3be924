// Nothing is fetched from elsewhere: the validator that Swagger UI would call on the internet is off.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reader",
  validatorUrl: null,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayOperationId: true,
  requestSnippetsEnabled: true,
});
