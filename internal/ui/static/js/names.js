// Which fields name the ends of a record: the setting -mapping says so.

const usual = [{ field: "SrcAddr", prefix: "Src" }, { field: "DstAddr", prefix: "Dst" }];
let mapping = usual;

// setMapping notes the setting, and reports whether it differs from the one before.
export function setMapping(list) {
  const changed = Boolean(list) && JSON.stringify(list) !== JSON.stringify(mapping);
  if (changed) mapping = list;
  return changed;
}

// prefixOf is what the names of an address field begin with.
export const prefixOf = field => mapping.find(m => m.field === field)?.prefix;

// source and destination are those of the two ends.
export const source = () => prefixOf("SrcAddr") ?? "Src";
export const destination = () => prefixOf("DstAddr") ?? "Dst";
export const sides = () => [source(), destination()];

// further are the other fields that have names, such as the next hop.
export const further = () => mapping.filter(m => !/^(Src|Dst|Sampler)Addr/.test(m.field));
