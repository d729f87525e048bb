//go:build !race

package servicegroup_test

const raceEnabled = false
