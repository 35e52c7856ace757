package collector

// numMPLSSections is the number of sections of the label stack that there are elements
// for.
const numMPLSSections = ieMPLSLabelStackSection10 - ieMPLSTopLabelStackSection + 1

// addMPLS finds the label stack sections, which goflow2 reads the first three of.
func (c *compiler) addMPLS() {
	for id := uint16(ieMPLSTopLabelStackSection); id <= ieMPLSLabelStackSection10; id++ {
		if i := c.lastOf(id); i >= 0 {
			c.direction.mpls = append(c.direction.mpls, uint16(i))
		}
	}
}

// labels returns the label stack of a record: 20 bits of each section, without the
// empty sections below the bottom of the stack. The slice is the decoder's.
func (rd *recordDecoder) labels(sections []uint16, record []byte) []uint32 {
	n := 0
	for i, index := range sections {
		v := uint32(number(rd.value(record, int(index))))
		if rd.mpls[i] = v >> 4; v != 0 {
			n = i + 1
		}
	}
	if n == 0 {
		return nil
	}
	return rd.mpls[:n]
}
