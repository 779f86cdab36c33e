// Prints what BinderHub's client yields. It wants a browser's names for what
// node has under others.
globalThis.window = globalThis;
globalThis.document = { hidden: false, cookie: "", addEventListener() {}, removeEventListener() {} };
const { BinderRepository } = await import("@jupyterhub/binderhub-client/client.js");
const { LaunchSpec } = await import("@jupyterhub/binderhub-client/spec.js");

const [spec, build] = process.argv.slice(2);
const repo = new BinderRepository(spec, new URL(build), {});
for await (const line of repo.fetch()) {
  console.log(line.phase, JSON.stringify(line.message));
  if (line.phase === "ready") {
    console.log(new LaunchSpec("/lab").getJupyterServerRedirectUrl(new URL(line.url), line.token).href);
    repo.close();
  }
  if (line.phase === "failed") repo.close();
}
