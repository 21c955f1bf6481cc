// Writes merkle.json: roots, leaves, layouts and proofs of OpenZeppelin's StandardMerkleTree for fingerprint leaves.
// Run: npm install @openzeppelin/merkle-tree@1.0.8 && node merkle.mjs > merkle.json
import { StandardMerkleTree } from "@openzeppelin/merkle-tree";
import { keccak256 } from "ethereum-cryptography/keccak.js";
import { bytesToHex, hexToBytes, utf8ToBytes } from "ethereum-cryptography/utils.js";

const hash = (bytes) => "0x" + bytesToHex(keccak256(bytes));
const text = (string) => hash(utf8ToBytes(string));
const types = ["bytes32", "uint256", "uint256", "bytes32", "bytes32", "bytes32[]"];
const domain = text("oml.fingerprint.v1");

function fingerprint(index) {
  const salt = hash(utf8ToBytes(`salt ${index}`));
  const responses = Array.from({ length: 1 + (index % 3) }, (_, r) => ` answer ${index}.${r} é`);
  return { index, salt, query: `Question ${index}: wie spät ist es?`, responses };
}

function tree(count) {
  const openings = Array.from({ length: count }, (_, index) => fingerprint(index));
  const values = openings.map((o) => [domain, 1, o.index, o.salt, text(o.query), o.responses.map(text)]);
  const tree = StandardMerkleTree.of(values, types);
  return {
    root: tree.root,
    nodes: tree.dump().tree,
    openings: openings.map((opening, i) => ({ ...opening, leaf: tree.leafHash(values[i]), proof: tree.getProof(i) })),
  };
}

console.log(JSON.stringify([1, 2, 3, 4, 5, 7, 8, 13, 33].map(tree), null, 1));
