// A buyer on the official TypeScript SDK; prints one line of JSON: {status, body, receipt, nonces, error}.
//   node buyer.mjs --url URL --key 0x… [--timeout seconds]
import { parseArgs } from "node:util";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { privateKeyToAccount } from "viem/accounts";

const { values } = parseArgs({
  options: { url: { type: "string" }, key: { type: "string" }, timeout: { type: "string", default: "120" } },
});
const nonces = [];
const recordingFetch = async (input, init) => {
  const request = new Request(input, init);
  const header = request.headers.get("payment-signature");
  if (header) nonces.push(JSON.parse(Buffer.from(header, "base64").toString()).payload.authorization?.nonce);
  return fetch(request);
};
const client = new x402Client().register("eip155:*", new ExactEvmScheme(privateKeyToAccount(values.key)));
const paidFetch = wrapFetchWithPayment(recordingFetch, client);
const said = { status: 0, body: "", receipt: null, nonces, error: "" };
try {
  const response = await paidFetch(values.url, { signal: AbortSignal.timeout(Number(values.timeout) * 1000) });
  said.status = response.status;
  said.body = await response.text();
  const header = response.headers.get("payment-response");
  said.receipt = header ? decodePaymentResponseHeader(header) : null;
} catch (error) {
  said.error = String(error?.cause ? `${error}: ${error.cause}` : error);
}
console.log(JSON.stringify(said));
process.exit(0);
