// A seller on the official TypeScript SDK: GET /weather costs money, GET /_deliveries counts.
//   node server.mjs --facilitator URL --port N --pay-to ADDRESS [--price $0.01] [--network eip155:84532]
import { parseArgs } from "node:util";
import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";

const { values } = parseArgs({
  options: {
    facilitator: { type: "string" },
    port: { type: "string" },
    "pay-to": { type: "string" },
    price: { type: "string", default: "$0.01" },
    network: { type: "string", default: "eip155:84532" },
  },
});
const counts = { worked: 0, delivered: 0, refused: 0 };
const app = express();
app.get("/_deliveries", (_request, response) => response.json(counts));
app.use((request, response, next) => {
  response.on("finish", () => {
    if (request.path !== "/weather") return;
    if (response.statusCode === 200) counts.delivered += 1;
    else counts.refused += 1;
    console.log(JSON.stringify({ path: request.path, status: response.statusCode, ...counts }));
  });
  next();
});
const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: values.facilitator })).register(
  values.network,
  new ExactEvmScheme(),
);
const accepts = { scheme: "exact", price: values.price, network: values.network, payTo: values["pay-to"] };
app.use(paymentMiddleware({ "GET /weather": { accepts, description: "weather", mimeType: "application/json" } }, server));
app.get("/weather", (_request, response) => {
  counts.worked += 1;
  response.json({ weather: "sunny", temperature: 21 });
});
app.listen(Number(values.port), "127.0.0.1");
