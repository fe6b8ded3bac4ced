#!/bin/busybox sh
# The first process of the Linux guest. Lines "ID VERB DEVICE OFFSET LENGTH VALUE" come in on the second
# serial port; each runs by itself, so that requests overlap. Every line of an answer begins with the ID, and the
# last one is "ID ok" or "ID failed: WHY". The first serial port is the kernel's own.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module"; done </modules/order
exec 3<>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo

# Each is one request of one system call: the kernel passes it on whole, up to what the other side limits it to.
# The block device is opened with O_DIRECT, so nothing is kept back here.
request() {
    case $1 in
        write) tr '\0' "\\$5" </dev/zero | dd of="$2" bs="$4" count=1 iflag=fullblock seek="$3" oflag=direct,seek_bytes conv=notrunc ;;
        read) dd if="$2" bs="$4" count=1 skip="$3" iflag=direct,skip_bytes ;;
        flush) dd if=/dev/null of="$2" conv=notrunc,fsync ;;
        zero) /sbin/blkdiscard --zeroout --force --offset "$3" --length "$4" "$2" ;;
        unmap) /sbin/fallocate --punch-hole --offset "$3" --length "$4" "$2" ;;
        # A disk becomes another one, of another size: the kernel hears of that by an interrupt.
        sized) until [ "$(cat "/sys/block/${2#/dev/}/size")" = "$3" ]; do sleep 0.005; done ;;
        discard) /sbin/blkdiscard --force --offset "$3" --length "$4" "$2" ;;
        *) echo "no verb $1" >&2; false ;;
    esac
}

serve() {
    id=$1
    shift
    if request "$@" >"/tmp/$id.out" 2>"/tmp/$id.err"; then
        # Equal lines that follow each other are one "*", so that what holds a pattern is short.
        [ "$1" = read ] && hexdump -C "/tmp/$id.out" | while read -r line; do echo "$id data ${line%%|*}" >&3; done
        echo "$id ok" >&3
    else
        echo "$id failed: $(grep -v records "/tmp/$id.err" | tail -n 1)" >&3
    fi
    rm -f "/tmp/$id.out" "/tmp/$id.err"
}

listen() {
    for disk in /sys/block/vd*; do
        echo "disk $(cat "$disk/serial") /dev/${disk##*/}" >&3
    done
    echo ready >&3
    # A child that ends while busybox reads makes it forget what it has read of the line. So nobody is this one's
    # child while it reads: what it starts belongs to the first process.
    while read -r id request <&3; do
        # shellcheck disable=SC2086
        (serve "$id" $request &)
    done
}

listen &
while :; do wait; sleep 1000; done
