package filter

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"github.com/expr-lang/expr/file"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// The messages of expr's parser (parser/parser.go, parser/lexer/lexer.go).
var (
	unexpectedToken = regexp.MustCompile(`^unexpected token (\w+)(?:\((".*")\))?`)
	badNumber       = regexp.MustCompile(`^bad number syntax: "(.*)"`)
)

// operatorsElsewhere are operators of other languages, and what they are here.
var operatorsElsewhere = map[string]string{
	"=": "==", "<>": "!=", "eq": "==", "ne": "!=", "is": "==", "gt": ">", "ge": ">=", "lt": "<", "le": "<=",
	"&": "&&", "|": "||", "AND": "&&", "OR": "||", "NOT": "not", "IN": "in",
	"like": "matches, contains, startsWith or endsWith", "LIKE": "matches, contains, startsWith or endsWith", "=~": "matches", "~": "matches",
}

// advise says what is wrong with an expression that cannot be parsed, in words for who
// wrote it. The parser's own name its tokens.
func advise(source string, at *file.Error) *Error {
	line, column := max(at.Line, 1), at.Column+1
	e := &Error{Line: line, Column: column, Text: lowerFirst(at.Message)}
	lines := strings.Split(source, "\n")
	if line > len(lines) {
		return e
	}
	text := []rune(lines[line-1])
	word, begin := wordAt(text, at.Column)
	switch {
	case word != "" && isAddress(word):
		e.Column, e.Text = begin+1, fmt.Sprintf("addresses go in quotes: %q", word)
	case word != "" && isNetwork(word):
		e.Column, e.Text = begin+1, fmt.Sprintf("%s is a network; write cidr(SrcAddr, %q)", word, word)
	case strings.Contains(at.Message, "not terminated"):
		e.Text = "a quotation mark is missing at the end of the text"
	case badNumber.MatchString(at.Message):
		e.Text = fmt.Sprintf("%s is no number; text goes in quotes", badNumber.FindStringSubmatch(at.Message)[1])
	case unexpectedToken.MatchString(at.Message):
		e.Text = unexpected(text, at)
	}
	return e
}

// unexpected says what is wrong with a token.
func unexpected(text []rune, at *file.Error) string {
	m := unexpectedToken.FindStringSubmatch(at.Message)
	if m[1] == "EOF" {
		if strings.Count(string(text), "(") > strings.Count(string(text), ")") {
			return "a closing bracket is missing at the end"
		}
		return "something is missing at the end"
	}
	token := strings.Trim(m[2], `"`)
	// The parser takes <> and =~ for two operators, and may stop at either.
	operator := token
	if isOperator(token) {
		from, to := min(at.Column, len(text)), min(at.Column, len(text))
		for from > 0 && isOperator(string(text[from-1])) {
			from--
		}
		for to < len(text) && isOperator(string(text[to])) {
			to++
		}
		if all := string(text[from:to]); all != "" {
			operator = all
		}
	}
	if here, ok := operatorsElsewhere[operator]; ok {
		return fmt.Sprintf("there is no operator %s; use %s", operator, here)
	}
	if operator == "===" {
		return "there is no operator ===; use =="
	}
	return fmt.Sprintf("%s is not expected here; an example is SrcNamespace == \"prod\" && Bytes > 1000", m[2])
}

// isOperator reports whether a text consists of characters of operators.
func isOperator(s string) bool {
	return s != "" && strings.Trim(s, "=<>&|~!") == ""
}

// wordAt returns the word around a column, of the characters that addresses have, and
// where it begins.
func wordAt(text []rune, column int) (word string, begin int) {
	part := func(i int) bool {
		return unicode.IsLetter(text[i]) || unicode.IsDigit(text[i]) || strings.ContainsRune(".:/", text[i])
	}
	begin = min(column, len(text))
	end := begin
	for begin > 0 && part(begin-1) {
		begin--
	}
	for end < len(text) && part(end) {
		end++
	}
	return string(text[begin:end]), begin
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	_, mac := flow.ParseMAC(s)
	return err == nil || mac
}

func isNetwork(s string) bool {
	_, err := netip.ParsePrefix(s)
	return err == nil
}
