package config

import "strings"

// nearest returns the one of names that a user most likely meant by name, "" if
// none is similar.
func nearest(name string, names []string) string {
	if len(name) > 100 {
		return ""
	}
	lower := strings.ToLower(name)
	best, most := "", max(1, len(strings.TrimPrefix(name, envPrefix))/3)+1
	for _, n := range names {
		if strings.HasSuffix(n, "."+lower) {
			return n
		}
		if d := distance(lower, strings.ToLower(n)); d < most {
			best, most = n, d
		}
	}
	return best
}

// distance returns the Levenshtein distance: how many bytes must be inserted,
// deleted or replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
