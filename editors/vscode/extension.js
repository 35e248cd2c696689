// Starts `policy-engine lsp` for policies.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = function () {
  const command = workspace.getConfiguration("policy-engine").get("command");
  client = new LanguageClient(
    "policy-engine",
    "policy-engine",
    { command, args: ["lsp"] },
    { documentSelector: [{ language: "policy" }] },
  );
  return client.start();
};

exports.deactivate = function () {
  return client && client.stop();
};
