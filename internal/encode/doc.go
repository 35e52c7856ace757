// Package encode turns records into bytes: JSON in three schemas, goflow2's
// protobuf with fields of our own, and text for people. Which fields there are,
// and under which names, is one list of columns for all of them.
package encode

//go:generate go test -run ^TestFieldsDoc$ . -update
