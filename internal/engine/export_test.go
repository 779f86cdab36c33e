package engine

// Settle is settle.
var Settle = settle

// RemoveGroups is removeGroups.
var RemoveGroups = removeGroups

// Unmount is unmount.
var Unmount = unmount
