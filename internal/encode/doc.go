// Package encode turns records into bytes: JSON in three schemas, goflow2's protobuf
// with additional fields, and text for people. It also makes the keys of Kafka records.
// All of them take the fields and their names from one list of columns.
package encode

//go:generate go test -run ^TestFieldsDoc$ . -update
