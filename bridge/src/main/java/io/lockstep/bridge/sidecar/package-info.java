/**
 * The way to the sidecar: HTTP/1.1 with JSON over a Unix socket or loopback TCP, on the JDK alone.
 *
 * <p>{@link io.lockstep.bridge.sidecar.Sidecar} is the door: one call a batch, answered with one verdict a command. A
 * call is idempotent by its request id, so an answer that was lost is asked for again; a sidecar that is away fails the
 * call at once. An error is never read as "refused": what is not known is a {@link
 * io.lockstep.bridge.sidecar.SidecarException}.
 */
package io.lockstep.bridge.sidecar;
